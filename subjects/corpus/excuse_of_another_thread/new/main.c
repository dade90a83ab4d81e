/* Shows: an old frame excuses old replies of exchanges in which it ran itself, not those
 * that another thread gives meanwhile. `hold` waits in one thread in its old version;
 * what `recall` of the other thread says was made by the old start-up. */
#include "line_server.h"

#include <pthread.h>

static const char *stored;

static void load(void) { stored = "new form"; }

static void hold(int fd)
{
    char line[LONGEST_LINE];

    while (next_line(fd, line, sizeof line) && !is(line, "GO"))
        say(fd, "kept");
}

static void tell(int fd) { say(fd, "said"); }

static void recall(int fd) { say(fd, stored); }

static void *serve_other(void *listener)
{
    char line[LONGEST_LINE];

    for (;;) {
        int fd = next_client(*(int *)listener);

        while (next_line(fd, line, sizeof line))
            hold(fd);
        close(fd);
    }
}

int main(int count, char **arguments)
{
    int listener, other;
    pthread_t thread;
    char line[LONGEST_LINE];

    (void)count;
    load();
    other = listen_on(atoi(arguments[2]));
    if (pthread_create(&thread, NULL, serve_other, &other) != 0)
        return 1;
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "RECALL"))
                recall(fd);
            else
                tell(fd);
        }
        close(fd);
    }
}
