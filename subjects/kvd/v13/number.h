/* Decimal numbers in text. */
#ifndef KVD_NUMBER_H
#define KVD_NUMBER_H

/* 0, or -1 if the text is not a number. */
int parse_number(const char *text, long long *number);

#endif
