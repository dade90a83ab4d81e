/* Proves: a stop may take longer than any reply. SIGTERM only sets a flag, which is
 * looked at when nothing has come for a while, as in servers with a timer. */
#include "line_server.h"

#include <poll.h>

static volatile sig_atomic_t stopping;

static void on_term(int number)
{
    (void)number;
    stopping = 1;
}

static void answer(int fd) { say(fd, VERSION_TEXT("old", "new")); }

int main(void)
{
    struct pollfd listener = { .fd = listen_on(7000), .events = POLLIN };
    char line[80];

    signal(SIGTERM, on_term);
    while (!stopping) {
        int ready;

        while ((ready = poll(&listener, 1, 400)) < 0)
            ;
        if (ready > 0) {
            int fd = accept(listener.fd, NULL, NULL);

            while (next_line(fd, line, sizeof line))
                answer(fd);
            close(fd);
        }
    }
    return 0;
}
