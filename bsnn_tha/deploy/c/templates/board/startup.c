/* Start-up and output of the emulated board (QEMU, mps2-an385: an Arm Cortex-M3).
 *
 * A board of your own replaces this file and link.ld; network.c needs neither.
 * Output and exit status go to the debugger by Arm's semihosting calls. */
#include <stddef.h>
#include <stdint.h>

#include "port.h"

enum { SYS_WRITE0 = 0x04, SYS_EXIT = 0x18 };
enum { APPLICATION_EXIT = 0x20026, RUN_TIME_ERROR = 0x20023 };

extern uint32_t stack_top, data_load, data_start, data_end, bss_start, bss_end;

int main(void);
void reset(void);
void fault(void);

static void semihosting(uint32_t operation, uint32_t parameter) {
    register uint32_t r0 __asm__("r0") = operation;
    register uint32_t r1 __asm__("r1") = parameter;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static void leave(int status) {
    semihosting(SYS_EXIT, status == 0 ? APPLICATION_EXIT : RUN_TIME_ERROR);
    for (;;) {
    }
}

void put(const char *text) {
    semihosting(SYS_WRITE0, (uint32_t)(uintptr_t)text);
}

void reset(void) {
    const uint32_t *from = &data_load;
    for (uint32_t *to = &data_start; to < &data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = &bss_start; to < &bss_end; to++) {
        *to = 0;
    }
    leave(main());
}

void fault(void) {
    put("processor fault\n");
    leave(1);
}

typedef void (*handler)(void);

/* Where the processor looks for its first stack pointer and its first instruction. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    handler handlers[15];
} vectors = {&stack_top, {reset, fault, fault, fault, fault, fault}};

/* The compiler may call these even for a program that does not. */
void *memset(void *to, int value, size_t count);
void *memcpy(void *restrict to, const void *restrict from, size_t count);

void *memset(void *to, int value, size_t count) {
    for (volatile uint8_t *at = to; count > 0; count--) {
        *at++ = (uint8_t)value;
    }
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t count) {
    const uint8_t *source = from;
    for (volatile uint8_t *at = to; count > 0; count--) {
        *at++ = *source++;
    }
    return to;
}
