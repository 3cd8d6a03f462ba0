// Says something to all who listen; a listener that has gone hears nothing more.
export class Signal {
  #listeners = new Set();

  on(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  emit(value) {
    for (const listener of [...this.#listeners]) listener(value);
  }
}

// Calls `work` at once, then at most once every `pause` ms, and once more after the last call.
export function throttled(work, pause) {
  let timer = null;
  let again = false;
  const run = () => {
    again = false;
    timer = setTimeout(() => {
      timer = null;
      if (again) run();
    }, pause);
    work();
  };
  return () => {
    if (timer === null) run();
    else again = true;
  };
}

// Calls `work` once it has been quiet for `pause` ms.
export function debounced(work, pause) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...args), pause);
  };
}
