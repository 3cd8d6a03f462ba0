// Builds the page without ever reading text as HTML; what is given as a function is said anew by `refresh`.
const SVG = 'http://www.w3.org/2000/svg';
const PROPERTIES = new Set(['value', 'checked', 'indeterminate', 'disabled', 'hidden', 'selected']);

// Node -> what to do to bring it up to date.
const live = new WeakMap();

export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  append(node, children);
  const updates = [];
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'css') for (const [key, to] of Object.entries(value)) node.style.setProperty(key, to);
    else if (typeof value === 'function') {
      const update = () => set(node, name, value());
      update();
      updates.push(update);
    } else set(node, name, value);
  }
  if (updates.length) live.set(node, updates);
  return node;
}

function set(node, name, value) {
  if (PROPERTIES.has(name) && name in node) {
    if (node[name] !== value) node[name] = value;
  } else if (value === null || value === undefined || (value === false && !name.startsWith('aria-'))) {
    node.removeAttribute(name);
  } else {
    const text = value === true && !name.startsWith('aria-') ? '' : String(value);
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    if (child instanceof Node) node.append(child);
    else if (typeof child === 'function') node.append(text(child));
    else node.append(document.createTextNode(String(child)));
  }
}

// A text that is said anew by `refresh`.
export function text(say) {
  const node = document.createTextNode(String(say() ?? ''));
  live.set(node, [() => {
    const now = String(say() ?? '');
    if (node.data !== now) node.data = now;
  }]);
  return node;
}

export function put(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

export function refresh(root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  for (let node = root; node; node = walker.nextNode()) {
    const updates = live.get(node);
    if (updates) for (const update of updates) update();
  }
}

// Brings the children of `parent` into the order of `nodes`, and moves no node that is in place already.
export function arrange(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const node of nodes) {
    if (next !== node && next?.nextElementSibling === node) {
      const moved = next;
      next = node;
      moved.remove();
    }
    if (next === node) next = next.nextElementSibling;
    else parent.insertBefore(node, next);
  }
}

let numbers = 0;
export const unique = (stem) => `${stem}-${(numbers += 1)}`;
