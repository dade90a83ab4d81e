/* Requests: NAME [KEY [TEXT]], one a line. Replies:
 *   +text   done            -ERR text   refused
 *   =text   a value         :number     a number
 *   a list: LIST and the number of items, each item behind a dash, END */
#ifndef KVD_PROTOCOL_H
#define KVD_PROTOCOL_H

#include "client.h"

struct request {
    int words;
    const char *name; /* never NULL: an empty line has an empty name */
    const char *key;  /* second word, or "" */
    const char *text; /* the rest of the line, or "" */
};

void trim_line(char *line);
void split_line(char *line, struct request *request);

void begin_request(struct client *client, const struct request *request);
void finish_request(struct client *client, int outcome);

void reply_text(struct client *client, const char *text);
void reply_value(struct client *client, const char *text);
void reply_number(struct client *client, long long number);
int reply_error(struct client *client, const char *text);
void reply_list_begin(struct client *client, int items);
void reply_list_item(struct client *client, const char *text);
void reply_list_end(struct client *client);

#endif
