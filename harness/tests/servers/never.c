/* Proves: a duty that moves from the callee to the caller is lost when the update
 * comes at the entry of the callee: the new callee no longer counts, the old caller
 * does not yet. */
#include "line_server.h"

static int total;

static void count(void) { total++; }

static void store(void)
{
#ifndef NEW
    count();
#endif
    __asm__ volatile("");
}

static void add(int fd)
{
    store();
#ifdef NEW
    count();
#endif
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
