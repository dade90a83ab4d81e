/* Proves: state that only the new start-up makes is missing after an update, and code
 * that relies on it crashes; a transformer that makes it up rescues the update. */
#include "line_server.h"

static void start(void) { do_nothing(); }

static char first_letter(void) { return 'h'; }

static void greet(int fd, char letter)
{
    char text[2] = { letter, 0 };

    say(fd, text);
}

static void pong(int fd) { say(fd, "pong"); }

int main(int count, char **arguments)
{
    int listener = listen_on(atoi(arguments[count - 1]));
    char line[LONGEST_LINE];

    start();
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "GREET"))
                greet(fd, first_letter());
            else
                pong(fd);
        }
        close(fd);
    }
}
