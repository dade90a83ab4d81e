/* Shows: damage that no reply tells. The record grows, but the instance was allocated by
 * the old version: the new member lies in the heap's own bookkeeping of the block behind
 * it, which is looked at only when the server ends and frees that block. */
#include "line_server.h"

struct note {
    char text[24];
    size_t length;
};

static void *note; /* a struct note; by this type nobody finds it */
static char *behind;
static volatile sig_atomic_t stopping;

static void on_stop(int number)
{
    (void)number;
    stopping = 1;
}

static void prepare(void)
{
    note = malloc(sizeof(struct note));
    behind = malloc(24);
    if (!note || !behind)
        exit(5);
    memset(note, 0, sizeof(struct note));
}

static void set(int fd, const char *text)
{
    struct note *own = note;

    snprintf(own->text, sizeof own->text, "%s", text);
    own->length = strlen(own->text);
    say(fd, "set");
}

static void tell(int fd)
{
    struct note *own = note;

    say_text(fd, "note", own->text);
}

static void finish(void)
{
    free(behind);
    free(note);
}

int main(int count, char **arguments)
{
    struct sigaction action = { .sa_handler = on_stop };
    char line[LONGEST_LINE];
    int listener;

    (void)count;
    prepare();
    sigaction(SIGTERM, &action, NULL);
    listener = listen_on(atoi(arguments[1]));
    while (!stopping) {
        int fd = accept(listener, NULL, NULL);

        while (fd >= 0 && next_line(fd, line, sizeof line)) {
            char *text = argument(line, "SET");

            if (text)
                set(fd, text);
            else
                tell(fd);
        }
        if (fd >= 0)
            close(fd);
    }
    finish();
    return 0;
}
