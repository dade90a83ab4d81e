/* Shows: the stacks of all threads count. A duty moves from `hold`, which waits in the
 * other thread, to `add`, which the main thread is entering: both do it. */
#include "line_server.h"

#include <pthread.h>

static volatile int total;

static void hold(int fd)
{
    char line[LONGEST_LINE];

    while (next_line(fd, line, sizeof line)) {
        if (is(line, "GO"))
            break;
    }
    say(fd, "held");
}

static void add(int fd)
{
    total++;
    say(fd, "added");
}

static void tell(int fd) { say_number(fd, "total", total); }

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
    other = listen_on(atoi(arguments[2]));
    if (pthread_create(&thread, NULL, serve_other, &other) != 0)
        return 1;
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "ADD"))
                add(fd);
            else
                tell(fd);
        }
        close(fd);
    }
}
