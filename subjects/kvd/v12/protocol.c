#include "protocol.h"

#include <stdio.h>
#include <string.h>

#include "log.h"
#include "stats.h"

static int is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Takes the carriage return and the blanks off the end of the line. */
void trim_line(char *line)
{
    size_t length = strlen(line);

    if (length > 0 && line[length - 1] == '\r')
        length--;
    while (length > 0 && is_blank(line[length - 1]))
        length--;
    line[length] = '\0';
}

/* Cuts the next word off and moves on to what follows it. */
static const char *next_word(char **rest)
{
    char *word = *rest + strspn(*rest, " \t");
    char *end = word + strcspn(word, " \t");

    *rest = *end ? end + 1 : end;
    *end = '\0';
    return word;
}

void split_line(char *line, struct request *request)
{
    char *rest = line;

    request->name = next_word(&rest);
    request->key = next_word(&rest);
    request->text = rest;
    request->words = !!*request->name + !!*request->key + !!*request->text;
}

void begin_request(struct client *client, const struct request *request)
{
    stats_count(STAT_REQUESTS);
    log_request(client->number, request->name, request->key);
}

/* A request that came to nothing is counted and named in the log. */
void finish_request(struct client *client, int outcome)
{
    if (outcome == 0)
        return;
    stats_count(STAT_ERRORS);
    log_event(client->number, "refused");
}

static void reply_line(struct client *client, const char *mark, const char *text)
{
    char line[LINE_MAX_BYTES + 64];
    int length = snprintf(line, sizeof line, "%s%s\n", mark, text);

    client_append(client, line, (size_t)length);
}

void reply_text(struct client *client, const char *text)
{
    reply_line(client, "+", text);
}

void reply_value(struct client *client, const char *text)
{
    reply_line(client, "=", text);
}

void reply_number(struct client *client, long long number)
{
    char text[32];

    snprintf(text, sizeof text, "%lld", number);
    reply_line(client, ":", text);
}

/* Always -1, the outcome of a refused request. */
int reply_error(struct client *client, const char *text)
{
    reply_line(client, "-ERR ", text);
    return -1;
}

void reply_list_begin(struct client *client, int items)
{
    char text[32];

    snprintf(text, sizeof text, "%d", items);
    reply_line(client, "LIST ", text);
}

void reply_list_item(struct client *client, const char *text)
{
    reply_line(client, "- ", text);
}

void reply_list_end(struct client *client)
{
    reply_line(client, "", "END");
}
