/* Self-tests of the emulation: each case runs in a child process, and its standard error is searched for what it must say. A case that
 * must pass returns true and says nothing. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    const char *name;
    bool (*run)(void);
    const char *wanted; /* text on standard error, or NULL: the case passes */
    bool watch_only;    /* AddressSanitizer does not see it */
} emu_case;

static inline int emu_run_case(const emu_case *c)
{
    int ends[2], status = 0;
    static char text[1 << 16];
    size_t used = 0;
    if (pipe(ends) != 0) {
        return 1;
    }
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        _exit(c->run() ? 0 : 1);
    }
    close(ends[1]);
    for (ssize_t n; used < sizeof text - 1 && (n = read(ends[0], text + used, sizeof text - 1 - used)) > 0;) {
        used += (size_t)n;
    }
    text[used] = '\0';
    close(ends[0]);
    waitpid(child, &status, 0);
    const bool passed = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    const bool good = c->wanted == NULL ? passed : !passed && strstr(text, c->wanted) != NULL;
    printf("%s %s%s%s\n", good ? "ok  " : "FAIL", c->name, c->wanted != NULL ? ": wanted " : "", c->wanted != NULL ? c->wanted : "");
    if (!good) {
        printf("     %s, wrote:\n%s\n", passed ? "passed" : "did not pass", text);
    }
    return !good;
}

/* argv[1]: a case to run in this process. */
static inline int emu_run_cases(const emu_case *cases, size_t count, int argc, char **argv)
{
    int failed = 0;
    for (size_t i = 0; i < count; i++) {
        if (argc > 1) {
            if (strcmp(argv[1], cases[i].name) == 0) {
                return cases[i].run() ? 0 : 1;
            }
            continue;
        }
#ifdef EMU_ASAN
        if (cases[i].watch_only) {
            continue;
        }
#endif
        failed += emu_run_case(&cases[i]);
    }
    return failed > 0;
}
