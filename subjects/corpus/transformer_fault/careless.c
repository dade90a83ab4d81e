/* Takes for granted that a note is stored. */
extern char *note;

void kairos_transform(void);

void kairos_transform(void) { note[0] -= 'a' - 'A'; }
