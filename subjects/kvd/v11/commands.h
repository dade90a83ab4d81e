/* What a client can ask for. */
#ifndef KVD_COMMANDS_H
#define KVD_COMMANDS_H

#include "client.h"
#include "protocol.h"

/* Runs a request and replies. 0, or -1 if it was refused. */
int run_command(struct client *client, const struct request *request);

#endif
