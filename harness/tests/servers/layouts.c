/* Proves: instances of changed records, one in `main`'s frame and a list in the heap,
 * serve old frames and new code alike under a common layout, and under no other. The
 * session record loses a member that the old `main` goes on using, gains one in front,
 * and keeps the rest; the entry gains one in the middle, and two members change places.
 * What is added may begin as zero. Replies are the same in both versions. */
#include <stdlib.h>

#include "line_server.h"

struct session {
#ifdef NEW
    long stored;
#else
    int left;
#endif
    int commands;
    char last[10];
    unsigned loud : 1, quiet : 2;
};

struct entry {
    struct entry *next;
#ifdef NEW
    long used;
    char name[12];
    int value;
#else
    int value;
    char name[12];
#endif
};

static struct entry *entries;

static void add(struct session *session, const char *name)
{
    struct entry *entry = calloc(1, sizeof *entry);

    snprintf(entry->name, sizeof entry->name, "%s", name);
    snprintf(session->last, sizeof session->last, "%s", name);
    entry->value = session->commands;
    entry->next = entries;
    entries = entry;
#ifdef NEW
    session->stored++;
#endif
}

static int weight(struct entry *entry)
{
#ifdef NEW
    entry->used++;
#endif
    return entry->value;
}

static void sum(int fd)
{
    int total = 0;

    for (struct entry *entry = entries; entry; entry = entry->next)
        total += weight(entry) * 10 + (entry->name[0] == 'A');
    say_number(fd, "sum", total);
}

static void tell(int fd, struct session *session)
{
    say_number(fd, session->last, session->commands * 100 + session->loud * 10 + session->quiet);
}

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    for (;;) {
        int fd = accept(listener, NULL, NULL);
#ifdef NEW
        struct session session = { 0, 0, "none", 1, 2 };
#else
        struct session session = { 1000, 0, "none", 1, 2 };
#endif

        while (next_line(fd, line, sizeof line)) {
            session.commands++;
#ifndef NEW
            if (session.left-- != 1000 - (session.commands - 1))
                say(fd, "the old member is lost");
#endif
            if (is(line, "SUM"))
                sum(fd);
            else if (is(line, "TELL"))
                tell(fd, &session);
            else {
                add(&session, line);
                say(fd, "added");
            }
        }
        close(fd);
    }
}
