/* Shows: which processes an update reaches. A process serves each connection; it is
 * forked before the update or after it. */
#include "line_server.h"

static void greet(int fd) { say(fd, "new"); }

static void session(int fd)
{
    char line[LONGEST_LINE];

    while (next_line(fd, line, sizeof line))
        greet(fd);
}

static void begin(int fd)
{
    if (fork() == 0) {
        session(fd);
        _exit(0);
    }
    close(fd);
}

int main(int count, char **arguments)
{
    int listener;

    (void)count;
    signal(SIGCHLD, SIG_IGN);
    listener = listen_on(atoi(arguments[1]));
    for (;;)
        begin(next_client(listener));
}
