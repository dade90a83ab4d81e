/* Proves: what an active function still does decides. The new version has another
 * `struct note`. `early` uses it before it answers, `late` afterwards; `begin` differs
 * before its first answer and is the same after it; `answer` and `serve` are the same. */
#include "line_server.h"

struct note {
#ifdef NEW
    int weight;
#endif
    int count;
    int length;
};

static struct note *volatile notes;

static void prepare(void)
{
    notes = calloc(1, sizeof(struct note) + 64);
}

static void answer(int fd, const char *line)
{
    say(fd, line);
}

static void early(int fd, const char *line)
{
    notes->count++;
    answer(fd, line);
}

static void late(int fd, const char *line)
{
    answer(fd, line);
    notes->count++;
}

static void begin(int fd)
{
    answer(fd, VERSION_TEXT("old", "new"));
    answer(fd, "same");
}

static void serve(int listener)
{
    char line[80];

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "early"))
                early(fd, line);
            else if (is(line, "late"))
                late(fd, line);
            else
                begin(fd);
        }
        close(fd);
    }
}

int main(void)
{
    prepare();
    serve(listen_on(7000));
    return 0;
}
