/* What the self-test asks of the machine it runs on. */
#ifndef PORT_H
#define PORT_H

/* Show a line of text. */
void put(const char *text);

#endif
