/* Proves: an update of one process reaches that process and the children it forks
 * afterwards, and no other. A process serves each connection; with EXECUTES it does so
 * by executing the program's own file, which after the update is the new one. */
#include "line_server.h"

static void greet(int fd) { say(fd, VERSION_TEXT("old", "new")); }

static int session(int fd)
{
    char line[80];

    while (next_line(fd, line, sizeof line))
        greet(fd);
    return 0;
}

static void begin(const char *program, int fd)
{
    if (fork() == 0) {
#ifdef EXECUTES
        dup2(fd, 0);
        execl(program, program, "session", NULL);
#endif
        (void)program;
        _exit(session(fd));
    }
    close(fd);
}

int main(int count, char **arguments)
{
    int listener;

    if (count == 2 && is(arguments[1], "session"))
        return session(0);
    signal(SIGCHLD, SIG_IGN);
    listener = listen_on(7000);
    for (;;)
        begin(arguments[0], accept(listener, NULL, NULL));
}
