/* The self-test's output on a computer. */
#include <stdio.h>

#include "port.h"

void put(const char *text) {
    fputs(text, stdout);
}
