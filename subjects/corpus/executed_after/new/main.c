/* Shows: a program that executes its own file after the update starts the new version.
 * The word by which a session knows itself changes on both sides; a frame of the old
 * `begin` still says the old word to the new file. */
#include "line_server.h"

static int is_session(int count, char **arguments)
{
    return count == 3 && is(arguments[2], "--session");
}

static void note(void) { do_nothing(); }

static void greet(void) { say(0, "hello"); }

static void begin(char **arguments, int fd)
{
    note();
    if (fork() == 0) {
        dup2(fd, 0);
        execl(arguments[0], arguments[0], arguments[1], "--session", NULL);
        _exit(5);
    }
    close(fd);
}

int main(int count, char **arguments)
{
    int listener;

    if (is_session(count, arguments)) {
        char line[LONGEST_LINE];

        while (next_line(0, line, sizeof line))
            greet();
        return 0;
    }
    signal(SIGCHLD, SIG_IGN);
    listener = listen_on(atoi(arguments[1]));
    for (;;)
        begin(arguments, next_client(listener));
}
