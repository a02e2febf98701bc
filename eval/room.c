/* Says which rooms stand on this one; keeps the library from being empty. */
extern int bif_room_eval;
int bif_room_eval;
