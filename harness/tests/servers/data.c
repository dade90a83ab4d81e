/* Proves: data of the new version arrive with an update, and live state stays:
 * a read-only table with one more row, read by code that does not change; a global
 * whose initialiser alone changes; a function-local static of a changed function; a
 * wrong constant put right in a function that calls nothing. */
#include "line_server.h"

struct word {
    const char *name;
    const char *meaning;
};

static const struct word dictionary[] = {
    { "ONE", "1" },
    { "TWO", "2" },
#ifdef NEW
    { "SIX", "6" },
#endif
    { NULL, NULL },
};

static int limit = VERSION_TEXT(3, 5);

static void look_up(int fd, const char *name)
{
    const struct word *word = dictionary;

    while (word->name && strcmp(word->name, name) != 0)
        word++;
    say(fd, word->name ? word->meaning : "unknown");
}

static void tell_limit(int fd) { say_number(fd, "limit", limit); }

static void set_limit(int fd, int value)
{
    limit = value;
    say(fd, "set");
}

static void next_ticket(int fd)
{
    static int ticket = 100;

    say_number(fd, VERSION_TEXT("ticket", "number"), ++ticket);
}

static void hours(int fd) { say_number(fd, "hours", VERSION_TEXT(23, 24)); }

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "LIMIT"))
                tell_limit(fd);
            else if (is(line, "SET 9"))
                set_limit(fd, 9);
            else if (is(line, "TICKET"))
                next_ticket(fd);
            else if (is(line, "HOURS"))
                hours(fd);
            else
                look_up(fd, line);
        }
        close(fd);
    }
}
