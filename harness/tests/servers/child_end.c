/* Proves: a parent sees the end of its child as it does without a tracer. By the time its
 * call returns because the child's end of a pair of sockets is closed, it has been told
 * of the child's end by a signal, too. `poll` returns that there is something to read. A
 * read that had waited is interrupted by the signal, or made again after it. */
#include "line_server.h"

#include <poll.h>

static volatile sig_atomic_t told;

static void child_ended(int number)
{
    (void)number;
    told = 1;
}

static void leave(void) { _exit(0); }

/* What a call that waits for the child returns. No point lies before it: the parent waits
 * by the time the child ends. */
HELPER int wait_for_end(int pair, int with_poll)
{
    struct pollfd wanted = { .fd = pair, .events = POLLIN };
    char byte;

    if (with_poll)
        return poll(&wanted, 1, -1);
    return (int)read(pair, &byte, 1);
}

/* Whether a call that waits for the child is made again after a signal is up to `flags`. */
static int see_end(int flags, int with_poll)
{
    struct sigaction action = { .sa_handler = child_ended, .sa_flags = flags };
    int pair[2], returned;
    pid_t child;

    sigaction(SIGCHLD, &action, NULL);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        abort();
    told = 0;
    child = fork();
    if (child == 0) {
        char byte;

        close(pair[0]);
        if (read(pair[1], &byte, 1) != 1)
            abort();
        leave();
    }
    close(pair[1]);
    if (write(pair[0], "x", 1) != 1)
        abort();
    returned = wait_for_end(pair[0], with_poll);
    returned = 10 * returned + told;
    while (waitpid(child, NULL, 0) < 0)
        continue;
    close(pair[0]);
    return returned;
}

static void say_seen(int fd, int seen)
{
    say_number(fd, VERSION_TEXT("seen", "then seen"), seen);
}

/* Once more where what is known to come did not: the kernel of a busy machine may let the
 * parent run before the child's end is told, or before the parent waits. */
static void serve(int fd)
{
    char line[80];

    while (next_line(fd, line, sizeof line)) {
        int known = is(line, "again") ? 1 : is(line, "poll") ? 11 : -9;
        int seen, tries = 0;

        do
            seen = see_end(is(line, "again") ? SA_RESTART : 0, is(line, "poll"));
        while (seen != known && ++tries < 3);
        say_seen(fd, seen);
    }
}

int main(void)
{
    int listener = listen_on(7000);

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd >= 0) {
            serve(fd);
            close(fd);
        }
    }
}
