/* Proves: the members of a list's entries change places while an old frame walks the list.
 * It takes a value for the next entry; where both versions have one layout it does not. */
#include "line_server.h"

struct entry {
    long value;
    struct entry *next;
};

static struct entry *first;
static long total;

static void note(long value) { total += value; }

static void add(int fd, long value)
{
    struct entry *entry = calloc(1, sizeof *entry);

    if (!entry)
        exit(5);
    entry->value = value;
    entry->next = first;
    first = entry;
    say(fd, "added");
}

static void answer(int fd) { say_number(fd, "total", total); }

static void report(int fd)
{
    struct entry *entry;

    total = 0;
    for (entry = first; entry; entry = entry->next)
        note(entry->value);
    answer(fd);
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
            char *value = argument(line, "ADD");

            if (value)
                add(fd, atol(value));
            else
                report(fd);
        }
        close(fd);
    }
}
