#include "commands.h"

#include <stdio.h>
#include <string.h>

#include "greeting.h"
#include "number.h"
#include "quota.h"
#include "server.h"
#include "stats.h"
#include "table.h"

#define KEY_LIMIT 32
#define VALUE_LIMIT 128

struct command {
    const char *name;
    int words; /* with the name */
    int (*run)(struct client *client, const struct request *request);
};

static int check_key(struct client *client, const char *key)
{
    return strlen(key) > KEY_LIMIT ? reply_error(client, "key too long") : 0;
}

static int check_value(struct client *client, const char *value)
{
    return strlen(value) > VALUE_LIMIT ? reply_error(client, "value too long") : 0;
}

static int check_unlocked(struct client *client, const char *key)
{
    return table_is_locked(key) ? reply_error(client, "locked") : 0;
}

static int store_value(struct client *client, const char *key, const char *value)
{
    if (check_unlocked(client, key) != 0)
        return -1;
    if (!table_get(key) && !quota_allows(table_count()))
        return reply_error(client, "table full");
    if (table_set(key, value) != 0)
        return reply_error(client, "out of memory");
    stats_count(STAT_WRITES);
    return 0;
}

static int cmd_ping(struct client *client, const struct request *request)
{
    (void)request;
    reply_text(client, "PONG");
    return 0;
}

/* The words after the name, with one blank between them. */
static int cmd_echo(struct client *client, const struct request *request)
{
    char text[LINE_MAX_BYTES];

    snprintf(text, sizeof text, "%s%s%s", request->key, *request->text ? " " : "", request->text);
    reply_value(client, text);
    return 0;
}

static int cmd_set(struct client *client, const struct request *request)
{
    if (check_key(client, request->key) != 0 || check_value(client, request->text) != 0)
        return -1;
    if (store_value(client, request->key, request->text) != 0)
        return -1;
    reply_text(client, "OK");
    return 0;
}

static int cmd_get(struct client *client, const struct request *request)
{
    const char *value = table_get(request->key);

    if (!value) {
        stats_count(STAT_MISSES);
        return reply_error(client, "no such key");
    }
    stats_count(STAT_HITS);
    reply_value(client, value);
    return 0;
}

static int cmd_append(struct client *client, const struct request *request)
{
    char joined[VALUE_LIMIT + LINE_MAX_BYTES];
    const char *value = table_get(request->key);

    snprintf(joined, sizeof joined, "%s%s", value ? value : "", request->text);
    if (check_key(client, request->key) != 0 || check_value(client, joined) != 0)
        return -1;
    if (store_value(client, request->key, joined) != 0)
        return -1;
    reply_number(client, (long long)strlen(joined));
    return 0;
}

static int cmd_incr(struct client *client, const struct request *request)
{
    const char *value = table_get(request->key);
    long long number = 0;
    char text[32];

    if (value && parse_number(value, &number) != 0)
        return reply_error(client, "not a number");
    snprintf(text, sizeof text, "%lld", number + 1);
    if (check_key(client, request->key) != 0)
        return -1;
    if (store_value(client, request->key, text) != 0)
        return -1;
    reply_value(client, text);
    return 0;
}

static int cmd_del(struct client *client, const struct request *request)
{
    if (check_unlocked(client, request->key) != 0)
        return -1;
    reply_number(client, table_remove(request->key));
    return 0;
}

static int cmd_lock(struct client *client, const struct request *request)
{
    int found = table_lock(request->key, 1);

    if (found)
        stats_count(STAT_LOCKS);
    reply_number(client, found);
    return 0;
}

static int cmd_unlock(struct client *client, const struct request *request)
{
    reply_number(client, table_lock(request->key, 0));
    return 0;
}

static int cmd_exists(struct client *client, const struct request *request)
{
    reply_number(client, table_get(request->key) != NULL);
    return 0;
}

static int cmd_count(struct client *client, const struct request *request)
{
    (void)request;
    reply_number(client, table_count());
    return 0;
}

static int cmd_keys(struct client *client, const struct request *request)
{
    const char **keys = table_keys();

    (void)request;
    if (!keys)
        return reply_error(client, "out of memory");
    reply_list_begin(client, table_count());
    for (int i = 0; keys[i]; i++)
        reply_list_item(client, keys[i]);
    reply_list_end(client);
    table_free_keys(keys);
    return 0;
}

static int cmd_flush(struct client *client, const struct request *request)
{
    (void)request;
    table_clear();
    reply_text(client, "OK");
    return 0;
}

static int cmd_stats(struct client *client, const struct request *request)
{
    char text[64];

    (void)request;
    reply_list_begin(client, STAT_END);
    for (int stat = 0; stat < STAT_END; stat++) {
        snprintf(text, sizeof text, "%s %lu", stats_name(stat), stats_value(stat));
        reply_list_item(client, text);
    }
    reply_list_end(client);
    return 0;
}

static int cmd_version(struct client *client, const struct request *request)
{
    char text[32];

    (void)request;
    snprintf(text, sizeof text, "protocol %d", protocol_number());
    reply_value(client, text);
    return 0;
}

static int cmd_quota(struct client *client, const struct request *request)
{
    char text[64];

    (void)request;
    quota_describe(text, sizeof text);
    reply_value(client, text);
    return 0;
}

static int cmd_config(struct client *client, const struct request *request)
{
    char text[64];

    (void)request;
    server_describe(text, sizeof text);
    reply_value(client, text);
    return 0;
}

static int cmd_quit(struct client *client, const struct request *request)
{
    (void)request;
    reply_text(client, "BYE");
    client->closing = 1;
    return 0;
}

static int cmd_help(struct client *client, const struct request *request);

static const struct command commands[] = {
    { "PING", 1, cmd_ping },     { "ECHO", 2, cmd_echo },       { "SET", 3, cmd_set },
    { "GET", 2, cmd_get },       { "APPEND", 3, cmd_append },   { "INCR", 2, cmd_incr },
    { "DEL", 2, cmd_del },       { "EXISTS", 2, cmd_exists },   { "COUNT", 1, cmd_count },
    { "KEYS", 1, cmd_keys },     { "FLUSH", 1, cmd_flush },     { "STATS", 1, cmd_stats },
    { "HELP", 1, cmd_help },     { "VERSION", 1, cmd_version }, { "QUIT", 1, cmd_quit },
    { "QUOTA", 1, cmd_quota },   { "LOCK", 2, cmd_lock },     { "UNLOCK", 2, cmd_unlock },
    { "CONFIG", 1, cmd_config }, { NULL, 0, NULL },
};

/* The names of all commands on one line. */
static int cmd_help(struct client *client, const struct request *request)
{
    char text[LINE_MAX_BYTES] = "";

    (void)request;
    for (const struct command *command = commands; command->name; command++) {
        if (*text)
            strcat(text, " ");
        strcat(text, command->name);
    }
    reply_value(client, text);
    return 0;
}

static const struct command *find_command(const char *name)
{
    for (const struct command *command = commands; command->name; command++) {
        if (strcmp(command->name, name) == 0)
            return command;
    }
    return NULL;
}

int run_command(struct client *client, const struct request *request)
{
    const struct command *command = find_command(request->name);

    if (!command)
        return reply_error(client, "unknown command");
    if (request->words < command->words)
        return reply_error(client, "too few words");
    return command->run(client, request);
}
