/* Several ranks at one job of curation. data/ does not know MPI: launch/ fills this table (launch/team.c), and bif_team_alone() is one process.
 * Every call is collective and comes in the same order on all ranks, except inside `share`. */
#pragma once
#include "base/status.h"

typedef struct {
    int rank, world;
    int threads; /* CPU threads for this rank */
    void *context;
    /* Sums over ranks, to all; exact while sums are integers below 2^53. */
    void (*sum)(void *context, double *values, int64_t count);
    /* Bytes of rank 0 to all. */
    void (*broadcast)(void *context, void *bytes, size_t size);
    /* Bytes of every rank to rank 0, in order of rank: *out [*total] malloc'ed there, NULL elsewhere. */
    void (*gather)(void *context, const void *bytes, size_t size, char **out, size_t *total);
    /* BIF_OK when all ranks are; else one rank's failure, with its message, on all. */
    bif_status (*agree)(void *context, bif_status mine);
    /* Calls run(argument, unit) for every unit in [0, units) on whichever rank is free; each unit once. Ends with agree. A unit that fails ends its
     * rank's part; the other ranks stop at the next unit. No other collective may be called in between. */
    bif_status (*share)(void *context, int64_t units, bif_status (*run)(void *argument, int64_t unit), void *argument);
    /* To be called now and then inside a long unit, or the other ranks may wait for their next one (train/comm.h, bif_counter_poll). */
    void (*poll)(void *context);
} bif_team;

bif_team bif_team_alone(int threads);
