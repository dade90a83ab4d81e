/* Proves: a duty that moves from the caller to the callee runs twice when the update
 * comes between the two, which only a later TOTAL shows. `add` counts and then calls
 * `store`; in the new version `store` counts. */
#include "line_server.h"

static int total;

static void count(void) { total++; }

static void store(void)
{
#ifdef NEW
    count();
#endif
    __asm__ volatile("");
}

static void add(int fd)
{
#ifndef NEW
    count();
#endif
    store();
    say(fd, "added");
}

static void tell(int fd) { say_number(fd, "total", total); }

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "ADD"))
                add(fd);
            else
                tell(fd);
        }
        close(fd);
    }
}
