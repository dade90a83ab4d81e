/* Proves: a failure that no reply shows is found in what the server leaves: a log line
 * written twice (with TO_LOG), or a wrong number in a file. The note moves from `add`
 * to `store`, which it calls last. */
#include "line_server.h"

static const char *folder;
static int total;

static void note(void)
{
#ifdef TO_LOG
    char path[200];
    int fd;

    snprintf(path, sizeof path, "%s/notes", folder);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    say(fd, "added");
    close(fd);
#else
    total++;
#endif
}

static void store(void)
{
#ifdef NEW
    note();
#endif
    __asm__ volatile("");
}

static void add(int fd)
{
#ifndef NEW
    note();
#endif
    store();
    say(fd, "added");
}

static void save(void)
{
    char path[200];
    int fd;

    snprintf(path, sizeof path, "%s/total", folder);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    say_number(fd, "total", total);
    close(fd);
}

int main(int count, char **arguments)
{
    int listener = listen_on(7000);
    char line[80];

    folder = arguments[count - 1];
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            add(fd);
        save();
        close(fd);
    }
}
