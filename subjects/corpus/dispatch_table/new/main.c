/* Proves: a table of commands that start-up fills lacks the new command after an
 * update, while another command answers in its new form; a transformer that fills it
 * again rescues the update. */
#include "line_server.h"

struct command {
    const char *name;
    void (*run)(int fd);
};

static struct command commands[4];
static int number;

static void add(const char *name, void (*run)(int fd))
{
    commands[number].name = name;
    commands[number].run = run;
    number++;
}

static void pong(int fd) { say(fd, "pong 2"); }

static void version(int fd) { say(fd, "version 2"); }

static void unknown(int fd) { say(fd, "unknown"); }

static void start(void)
{
    number = 0;
    add("PING", pong);
    add("VERSION", version);
}

static void dispatch(int fd, const char *line)
{
    for (int i = 0; i < number; i++)
        if (is(line, commands[i].name)) {
            commands[i].run(fd);
            return;
        }
    unknown(fd);
}

int main(int count, char **arguments)
{
    int listener = listen_on(atoi(arguments[count - 1]));
    char line[LONGEST_LINE];

    start();
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line))
            dispatch(fd, line);
        close(fd);
    }
}
