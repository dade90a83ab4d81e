/* Fills the table again. */
void start(void);

void kairos_transform(void) { start(); }
