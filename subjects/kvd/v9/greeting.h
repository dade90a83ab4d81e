/* What a client hears first. */
#ifndef KVD_GREETING_H
#define KVD_GREETING_H

/* Puts the text together, once, at the start. */
void make_greeting(void);
const char *greeting(void);
/* The number of the protocol in it. */
int protocol_number(void);

#endif
