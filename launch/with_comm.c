#include "launch/with_comm.h"

#include <stdio.h>

#include "base/log.h"

bif_status bif_with_comm(bif_status (*job)(void *context, bif_comm *comm), void *context)
{
    bif_comm *comm = NULL;
    bif_status st = bif_comm_start(NULL, NULL, &comm);
    if (st != BIF_OK) {
        return st;
    }
    bif_log_set_rank(bif_comm_rank(comm));
    st = job(context, comm);
    if (st != BIF_OK && st != BIF_ERR_STOPPED && bif_comm_world(comm) > 1) {
        /* Failures are agreed on before they get here, so rank 0 knows the message; one that is not (an I/O error on one rank) must not
         * leave the others waiting in a collective. */
        if (bif_comm_rank(comm) == 0) {
            fprintf(stderr, "bifocal: error: %s\n", bif_error_message());
        } else {
            bif_warn("%s", bif_error_message());
        }
        fflush(stderr);
        bif_comm_abort(comm, (int)st);
    }
    bif_comm_finish(comm);
    return st;
}
