#include "launch/with_comm.h"

#include "base/log.h"
#include "launch/commands.h"

bif_status bif_with_comm(bif_status (*job)(void *context, bif_comm *comm), void *context)
{
    bif_comm *comm = NULL;
    bif_status st = bif_comm_start(NULL, NULL, &comm);
    if (st != BIF_OK) {
        return st;
    }
    bif_log_set_rank(bif_comm_rank(comm));
    st = job(context, comm);
    if (st != BIF_OK && bif_comm_world(comm) > 1) {
        /* Failures are agreed on before they get here, so rank 0 speaks for all, and before any rank ends: mpirun kills the rest then.
         * One that only this rank knows of must not leave the others waiting in a collective; 5 s are ample for those that do come. */
        if (bif_comm_rank(comm) == 0) {
            bif_report(st);
        }
        if (!bif_comm_all_failed(comm, 5.0)) {
            if (bif_comm_rank(comm) > 0) {
                bif_warn("%s", bif_error_message());
            }
            bif_comm_abort(comm, (int)st);
        }
        bif_error_clear();
    }
    bif_comm_finish(comm);
    return st;
}
