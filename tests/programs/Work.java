import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.*;

/** Thread pools, timers and garbage; what is printed depends on neither speed nor order. */
public class Work {
    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        ScheduledExecutorService timer = Executors.newScheduledThreadPool(1);
        List<byte[]> garbage = new ArrayList<>();
        long sum = 0, last = System.nanoTime();
        System.out.println("begins");
        for (int n = 0; n < 2500; n++) {
            List<Future<Long>> parts = new ArrayList<>();
            for (int j = 0; j < 4; j++) {
                final int seed = n + j;
                parts.add(pool.submit(() -> {
                    long part = seed;
                    for (int i = 0; i < 100000; i++) part = (part * 31 + i) % 1000003;
                    return part;
                }));
            }
            for (Future<Long> part : parts) sum += part.get();
            garbage.add(new byte[100000]);
            if (garbage.size() > 300) garbage.clear();
            sum += timer.schedule(() -> 7, 2, TimeUnit.MILLISECONDS).get();
            long now = System.nanoTime();
            if (now < last || now - last > 5_000_000_000L) throw new Error((now - last) + " ns have passed");
            last = now;
            System.out.println(n + " " + sum);
        }
        pool.shutdown();
        timer.shutdown();
    }
}
