/* Proves: a client that waits for a reply which nobody gives any more is told as a
 * stall, in bounded time. The reply moves from `work` to its caller: an update at the
 * entry of `work` leaves an old caller that does not reply. */
#include "line_server.h"

static void work(int fd)
{
#ifndef NEW
    say(fd, "done");
#endif
    (void)fd;
    __asm__ volatile("");
}

static void request(int fd)
{
    work(fd);
#ifdef NEW
    say(fd, "done");
#endif
    __asm__ volatile("");
}

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            request(fd);
        close(fd);
    }
}
