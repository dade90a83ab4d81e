/* Proves: a function that the new version deletes goes on being called through a table
 * which the start-up filled: its old replies come after new ones. */
#include "line_server.h"

static void (*handlers[2])(int);

static void tell_first(int fd) { say(fd, VERSION_TEXT("first 1", "first 2")); }

#ifdef NEW
static void tell_second_anew(int fd) { say(fd, "second 2"); }
#define SECOND tell_second_anew
#else
static void tell_second(int fd) { say(fd, "second 1"); }
#define SECOND tell_second
#endif

static void start(void)
{
    handlers[0] = tell_first;
    handlers[1] = SECOND;
}

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    start();
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            handlers[is(line, "SECOND")](fd);
        close(fd);
    }
}
