/* Shows: a failure behind a right transcript, in a process that no client talks to. The
 * listener notes which sessions have ended, in slots that only the new start-up points to,
 * and dies of it when the last client is gone. */
#include "line_server.h"

static void prepare(void)
{
    do_nothing();
}

static void greet(int fd) { say(fd, "hello"); }

static void retire(pid_t session)
{
    (void)session;
    do_nothing();
}

static void begin(int fd)
{
    pid_t session = fork();

    if (session == 0) {
        char line[LONGEST_LINE];

        while (next_line(fd, line, sizeof line))
            greet(fd);
        _exit(0);
    }
    close(fd);
    waitpid(session, NULL, 0);
    retire(session);
}

int main(int count, char **arguments)
{
    int listener;

    (void)count;
    prepare();
    listener = listen_on(atoi(arguments[1]));
    for (;;)
        begin(next_client(listener));
}
