/* Threads for what cannot be waited for without blocking: lookups and files. Detached: nobody joins
 * one that is stuck, at exit either. */
#ifndef NP_THREAD_H
#define NP_THREAD_H

/* Runs run(arg) in a thread that gets no signals: they are for the loop's. 0 or a code. */
int np_thread_start(void *(*run)(void *), void *arg);

#endif
