// Its first thread ends when there is something to be read; another one says so over and over that it goes on.
#include <pthread.h>
#include <unistd.h>

static void *go_on(void *unused) {
    for (;;) {
        if (write(1, ".", 1) != 1) _exit(1);
        usleep(1000);
    }
    return unused;
}

int main(void) {
    pthread_t thread;
    char byte;
    if (pthread_create(&thread, 0, go_on, 0)) return 2;
    while (read(0, &byte, 1) < 0) {}
    pthread_exit(0);
}
