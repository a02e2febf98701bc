/* Verbs of curation on several ranks: data/team.h upon MPI. */
#pragma once
#include "data/team.h"
#include "train/comm.h"

bool bif_launched(void); /* by mpirun or the like: else a verb may do without MPI, which costs a third of a second and may not start under limits */
int bif_launch_rank(void); /* as the launcher says without MPI; 0 without one */
/* Starts MPI, runs job(context, team, comm) and ends MPI as bif_with_comm does. threads: of a rank, 0 = the cores of the node divided among its ranks. */
bif_status bif_with_team(int threads, bif_status (*job)(void *context, const bif_team *team, bif_comm *comm), void *context);
