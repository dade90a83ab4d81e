/* Shows: state that old code built and that rightly keeps its old form. The new version
 * writes values with a revision; what was stored before stays as it is, and the session
 * says so (`after_update`), or a right update would count as one that mixes versions. */
#include "line_server.h"

static char colour[40], size[40];

static void load(void) { snprintf(colour, sizeof colour, "red"); }

static void set_size(int fd, const char *value)
{
    snprintf(size, sizeof size, "%s", value);
    say(fd, "stored");
}

static void get(int fd, const char *value) { say_text(fd, "value", value); }

int main(int count, char **arguments)
{
    int listener;
    char line[LONGEST_LINE];

    (void)count;
    load();
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            char *value = argument(line, "SET");

            if (value)
                set_size(fd, value);
            else
                get(fd, is(line, "COLOUR") ? colour : size);
        }
        close(fd);
    }
}
