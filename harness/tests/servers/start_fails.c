/* Proves: an update before the server is ready is judged like any other. Between
 * `prepare` and `use` the new `use` misses what the new `prepare` would have done, and
 * the server crashes, exits or waits for ever (CRASHES, EXITS, WAITS) instead of
 * becoming ready. */
#include "line_server.h"

static volatile char *prepared;

static void prepare(void)
{
#ifdef NEW
    static char room;

    prepared = &room;
#endif
}

static void use(void)
{
#ifdef NEW
#if defined CRASHES
    *prepared = 1;
#elif defined EXITS
    if (!prepared)
        exit(3);
#else
    while (!prepared)
        pause();
#endif
#endif
}

static void greet(int fd) { say(fd, "hello"); }

int main(void)
{
    char line[80];
    int listener;

    prepare();
    use();
    listener = listen_on(7000);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            greet(fd);
        close(fd);
    }
}
