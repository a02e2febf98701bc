/* The verbs of the program. Each parses its own arguments (argv[0] is the verb), prints what it is asked for on stdout, and returns the exit
 * status; main.c prints the message of a failure. */
#pragma once
#include "base/status.h"

/* Prints the recorded message of a failure, if it was not printed yet. */
void bif_report(bif_status st);

bif_status bif_cmd_train(int argc, char **argv);
bif_status bif_cmd_eval(int argc, char **argv);
bif_status bif_cmd_score(int argc, char **argv);
bif_status bif_cmd_judge_requests(int argc, char **argv);
bif_status bif_cmd_report(int argc, char **argv);
bif_status bif_cmd_submit(int argc, char **argv);
bif_status bif_cmd_zeroshot(int argc, char **argv);
bif_status bif_cmd_retrieval(int argc, char **argv);
bif_status bif_cmd_linear_probe(int argc, char **argv);
bif_status bif_cmd_generate(int argc, char **argv);
bif_status bif_cmd_chat(int argc, char **argv);
bif_status bif_cmd_probe(int argc, char **argv);
bif_status bif_cmd_data_pack(int argc, char **argv);
bif_status bif_cmd_data_verify(int argc, char **argv);
bif_status bif_cmd_data_stats(int argc, char **argv);
bif_status bif_cmd_data_hash(int argc, char **argv);
bif_status bif_cmd_data_selection(int argc, char **argv);
bif_status bif_cmd_data_why(int argc, char **argv);
bif_status bif_cmd_data_undo(int argc, char **argv);
bif_status bif_cmd_data_diff(int argc, char **argv);
bif_status bif_cmd_data_uids(int argc, char **argv);
bif_status bif_cmd_data_select_uids(int argc, char **argv);
bif_status bif_cmd_data_compact(int argc, char **argv);
bif_status bif_cmd_data_show(int argc, char **argv);
bif_status bif_cmd_data_embed(int argc, char **argv);
bif_status bif_cmd_data_cluster(int argc, char **argv);
bif_status bif_cmd_data_tokenizer(int argc, char **argv);
bif_status bif_cmd_data_dedup(int argc, char **argv);
bif_status bif_cmd_data_leak(int argc, char **argv);
bif_status bif_cmd_data_import_column(int argc, char **argv);
bif_status bif_cmd_data_prune(int argc, char **argv);
bif_status bif_cmd_data_balance(int argc, char **argv);
bif_status bif_cmd_data_recaption(int argc, char **argv);
bif_status bif_cmd_checkpoint_show(int argc, char **argv);
bif_status bif_cmd_checkpoint_diff(int argc, char **argv);
bif_status bif_cmd_checkpoint_verify(int argc, char **argv);
bif_status bif_cmd_import(int argc, char **argv);
bif_status bif_cmd_export(int argc, char **argv);
bif_status bif_cmd_tokenize(int argc, char **argv);
