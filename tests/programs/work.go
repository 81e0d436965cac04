// Goroutines, timers and garbage; what is printed depends on neither speed nor order.
package main

import (
	"fmt"
	"sync"
	"time"
)

func main() {
	fmt.Println("begins")
	var garbage [][]byte
	last := time.Now()
	for n := 0; n < 1400; n++ {
		var all sync.WaitGroup
		sums := make([]int, 8)
		for j := range sums {
			all.Add(1)
			go func(j int) {
				defer all.Done()
				sum := n + j
				for i := 0; i < 200000; i++ {
					sum = (sum*31 + i) % 1000003
				}
				time.Sleep(time.Millisecond)
				sums[j] = sum
			}(j)
		}
		all.Wait()
		garbage = append(garbage, make([]byte, 100000))
		if len(garbage) > 300 {
			garbage = nil
		}
		if now := time.Now(); now.Sub(last) < 0 || now.Sub(last) > 5*time.Second {
			panic(fmt.Sprint(now.Sub(last), " have passed"))
		} else {
			last = now
		}
		fmt.Println(n, sums)
	}
}
