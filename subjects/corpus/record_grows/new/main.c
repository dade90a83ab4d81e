/* Proves: new code writes a record at its new size into an old frame that has room for
 * the old one, over what lies beside it. */
#include "line_server.h"

struct note {
    char text[16];
};

struct call {
    struct note note;
    char guard[8];
};

static void fill(struct note *note)
{
    memset(note->text, 'x', sizeof note->text - 1);
    note->text[sizeof note->text - 1] = 0;
}

static void check(const char *guard, int fd) { say(fd, guard); }

static void call(int fd)
{
    struct call call;

    strcpy(call.guard, "intact");
    fill(&call.note);
    check(call.guard, fd);
}

int main(int count, char **arguments)
{
    int listener = listen_on(atoi(arguments[count - 1]));
    char line[LONGEST_LINE];

    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "CALL"))
                call(fd);
        }
        close(fd);
    }
}
