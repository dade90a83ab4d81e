/* Proves: between two points at which nothing concerns the update it may come at either.
 * Most functions here are the same in both versions; one is changed, and a global gets
 * another initial value, which the update gives it if nobody has changed it. */
#include "line_server.h"

static int limit = VERSION_TEXT(3, 5);
static int lines;
static int letters;

static void count_line(void) { lines++; }
static void count_letters(const char *line) { letters += (int)strlen(line); }
static void note(const char *line)
{
    count_line();
    count_letters(line);
}

static void raise_limit(void) { limit++; }
static void tell_limit(int fd) { say_number(fd, "limit", limit); }
static void tell_lines(int fd) { say_number(fd, "lines", lines); }
static const char *greeting(void) { return VERSION_TEXT("hello", "welcome"); }

static void in_child(int fd)
{
    pid_t child = fork();

    if (child == 0) {
        count_line();
        say(fd, greeting());
        _exit(0);
    }
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
}

static void serve(int fd, const char *line)
{
    note(line);
    if (is(line, "RAISE"))
        raise_limit();
    else if (is(line, "LIMIT"))
        tell_limit(fd);
    else if (is(line, "HELLO"))
        say(fd, greeting());
    else if (is(line, "FORK"))
        in_child(fd);
    else
        tell_lines(fd);
    note(line);
}

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            serve(fd, line);
        close(fd);
    }
}
