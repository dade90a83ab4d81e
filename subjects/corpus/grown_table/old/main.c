/* Shows: a table and the counters beside it grow. What the counters hold is carried over,
 * but an old frame that has handed out the address of a counter counts where nobody looks
 * any more. Nothing that still follows in that frame says so. */
#include "line_server.h"

static const char *const words[] = {
    "one", "two", "three", "four", "five", "six",
};

#define WORDS (sizeof words / sizeof words[0])

static int hits[WORDS];

static void note(int *counter) { (*counter)++; }

static void hit(int fd, const char *word)
{
    for (size_t i = 0; i < WORDS; i++) {
        if (is(word, words[i])) {
            note(&hits[i]);
            say(fd, "noted");
            return;
        }
    }
    say(fd, "unknown");
}

static void tell(int fd)
{
    long sum = 0;

    for (size_t i = 0; i < WORDS; i++)
        sum += hits[i];
    say_number(fd, "hits", sum);
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
            char *word = argument(line, "HIT");

            if (word)
                hit(fd, word);
            else
                tell(fd);
        }
        close(fd);
    }
}
