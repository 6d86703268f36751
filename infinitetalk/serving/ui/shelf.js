// The jobs that were handed in from this browser: ids, names and small pictures, newest first.

const SHELF = "infinitetalk.jobs";
const MOST = 50;

export function shelved() {
  try {
    return JSON.parse(localStorage.getItem(SHELF)) ?? [];
  } catch {
    return [];
  }
}

export function shelve(job) {
  keep([job, ...shelved().filter((other) => other.id !== job.id)].slice(0, MOST));
}

export function unshelve(id) {
  keep(shelved().filter((job) => job.id !== id));
}

function keep(jobs) {
  try {
    localStorage.setItem(SHELF, JSON.stringify(jobs));
  } catch {
    // A browser that keeps nothing: the page works, and forgets.
  }
}
