/* Shows: a transformer has moments of its own. The capital letter moves from `tell` to
 * `set`, so a stored note must be converted; a careless transformer takes for granted that
 * there is one. */
#include "line_server.h"

static char *note;

static void set(int fd, const char *text)
{
    free(note);
    note = strdup(text);
    say(fd, "set");
}

static void tell(int fd)
{
    char text[LONGEST_LINE];

    snprintf(text, sizeof text, "%s", note ? note : "none");
    if (note)
        text[0] -= 'a' - 'A';
    say(fd, text);
}

int main(int count, char **arguments)
{
    int listener;
    char line[LONGEST_LINE];

    (void)count;
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            char *text = argument(line, "SET");

            if (text)
                set(fd, text);
            else
                tell(fd);
        }
        close(fd);
    }
}
