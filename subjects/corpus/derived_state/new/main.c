/* Proves: values that start-up derived with a changed function do not fit what the new
 * function derives from the same names; a transformer that derives them again rescues
 * the update. */
#include "line_server.h"

static const char *const names[] = { "a", "b" };
static unsigned keys[2];

static unsigned hash(const char *name)
{
    unsigned key = 1;

    while (*name)
        key = key * 33 + (unsigned)*name++;
    return key;
}

static void start(void)
{
    for (int i = 0; i < 2; i++)
        keys[i] = hash(names[i]);
}

static int find(const char *name)
{
    unsigned key = hash(name);

    for (int i = 0; i < 2; i++)
        if (keys[i] == key)
            return i;
    return -1;
}

static void answer(int fd, int place) { say(fd, place < 0 ? "unknown" : "known"); }

static void pong(int fd) { say(fd, "pong"); }

int main(int count, char **arguments)
{
    int listener = listen_on(atoi(arguments[count - 1]));
    char line[LONGEST_LINE];

    start();
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "GET"))
                answer(fd, find("b"));
            else
                pong(fd);
        }
        close(fd);
    }
}
