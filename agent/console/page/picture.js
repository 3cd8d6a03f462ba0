// The picture that an alarm names, with its box and its heat over it; says so where the picture has not come.
import { imageUrl } from './api.js';
import { h, put, svg } from './dom.js';
import { dialog } from './dialogs.js';
import { t } from './i18n.js';
import { prefs } from './prefs.js';
import { stream } from './stream.js';

// Pictures on the page that are not there yet; those that have left the page are forgotten.
let awaited = new Set();
const still = (nodes) => new Set([...nodes].filter((node) => node.isConnected));

stream.image.on(({ sha256 }) => {
  const come = [...awaited].filter((node) => node.dataset.sha256 === sha256);
  awaited = still(awaited);
  for (const node of come) {
    awaited.delete(node);
    node.src = imageUrl(sha256);
  }
});

// An <img> of `sha256`; `missing(bool)` hears whether it is there.
export function image(sha256, alt, missing = () => {}, lazy = false) {
  const node = h('img', { alt, decoding: 'async', loading: lazy ? 'lazy' : null, draggable: 'false', 'data-sha256': sha256 });
  node.addEventListener('error', () => {
    missing(true);
    if (awaited.size % 100 === 99) awaited = still(awaited);
    awaited.add(node);
  });
  node.addEventListener('load', () => missing(false));
  node.src = imageUrl(sha256);
  return node;
}

const boxOf = ({ box, frame }) => {
  if (!Array.isArray(box) || box.length < 4) return null;
  const [x0, y0, x1, y1] = box.map(Number);
  const whole = x0 <= 0 && y0 <= 0 && x1 >= frame.width && y1 >= frame.height;
  return x1 > x0 && y1 > y0 && !whole ? { x0, y0, x1, y1 } : null;
};

// A small picture of where the finding is, and a little around it.
export function thumbnail(alarm, width, height) {
  const node = h('span', { class: 'thumb', css: { width: `${width}px`, height: `${height}px` } });
  if (!alarm.image) return node;
  const frame = alarm.frame ?? {};
  const [fw, fh] = [frame.width || 4, frame.height || 3];
  const box = boxOf({ ...alarm, frame: { width: fw, height: fh } }) ?? { x0: 0, y0: 0, x1: fw, y1: fh };
  const around = 1.8;
  const scale = Math.max(
    Math.min(width / ((box.x1 - box.x0) * around), height / ((box.y1 - box.y0) * around)),
    Math.max(width / fw, height / fh),
  );
  const within = (middle, size, room) => Math.min(0, Math.max(room - size, room / 2 - middle));
  const picture = image(alarm.image, '', (missing) => node.classList.toggle('missing', missing), true);
  Object.assign(picture.style, {
    width: `${fw * scale}px`,
    height: `${fh * scale}px`,
    left: `${within(((box.x0 + box.x1) / 2) * scale, fw * scale, width)}px`,
    top: `${within(((box.y0 + box.y1) / 2) * scale, fh * scale, height)}px`,
  });
  node.append(picture);
  return node;
}

// Heat as colours: yellow to red, and the more opaque the hotter.
function heatLayer(heat, frame) {
  const cells = heat.width * heat.height;
  let values;
  try {
    values = atob(heat.values);
  } catch {
    return null;
  }
  if (!cells || values.length < cells) return null;
  const node = h('canvas', { class: 'heat', width: heat.width, height: heat.height, 'aria-hidden': 'true' });
  const context = node.getContext('2d');
  const pixels = context.createImageData(heat.width, heat.height);
  for (let i = 0; i < cells; i += 1) {
    const value = values.charCodeAt(i);
    pixels.data.set([255, Math.round(225 * (1 - value / 255)), 0, Math.round(value * 0.72)], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
  const [x0, y0, x1, y1] = heat.box;
  const share = (part, of) => `${(100 * part) / of}%`;
  Object.assign(node.style, {
    left: share(x0, frame.width), top: share(y0, frame.height), width: share(x1 - x0, frame.width), height: share(y1 - y0, frame.height),
  });
  return node;
}

function boxLayer(alarm) {
  const box = boxOf(alarm);
  if (!box) return null;
  const { width, height } = alarm.frame;
  const edge = (name) => svg('rect', {
    class: name, x: box.x0, y: box.y0, width: box.x1 - box.x0, height: box.y1 - box.y0, 'vector-effect': 'non-scaling-stroke',
  });
  return svg('svg', { class: `box box-${alarm.severity}`, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    edge('box-under'), edge('box-over'));
}

function layers(alarm) {
  const frame = { width: alarm.frame?.width || 4, height: alarm.frame?.height || 3 };
  const absent = h('p', { class: 'picture-missing', hidden: true }, () => t('picture.missing'));
  const heat = alarm.heat && heatLayer(alarm.heat, frame);
  const box = boxLayer({ ...alarm, frame });
  const node = h('div', { class: 'picture-frame' },
    image(alarm.image, t('picture.alt', { class: alarm.class, camera: alarm.camera }), (missing) => { absent.hidden = !missing; }),
    heat, box, absent);
  node.style.aspectRatio = `${frame.width} / ${frame.height}`;
  const show = () => {
    if (heat) heat.hidden = !prefs.get('heat', true);
    box?.classList.toggle('off', !prefs.get('box', true));
  };
  show();
  return { node, show, heat, box };
}

function full(alarm) {
  dialog(() => t('picture.of', { class: alarm.class, camera: alarm.camera }), () => {
    const { node } = layers(alarm);
    let zoom = 1;
    const room = h('div', { class: 'zoom-room', tabindex: '0', role: 'group', 'aria-label': () => t('picture.full') }, node);
    const to = (next, x = 0.5, y = 0.5) => {
      const before = zoom;
      zoom = Math.min(8, Math.max(1, next));
      const [left, top] = [room.scrollLeft + x * room.clientWidth, room.scrollTop + y * room.clientHeight];
      node.style.width = `${100 * zoom}%`;
      room.scrollTo(left * (zoom / before) - x * room.clientWidth, top * (zoom / before) - y * room.clientHeight);
    };
    room.addEventListener('click', (event) => {
      const place = room.getBoundingClientRect();
      to(zoom > 1 ? 1 : 3, (event.clientX - place.left) / place.width, (event.clientY - place.top) / place.height);
    });
    const ratio = (alarm.frame?.width || 4) / (alarm.frame?.height || 3);
    room.style.maxWidth = `calc(78dvh * ${ratio})`;
    const button = (words, label, by) => h('button', { type: 'button', 'aria-label': () => t(label), onclick: () => to(by(zoom)) }, words);
    return h('div', { class: 'zoom' }, room, h('div', { class: 'zoom-tools' },
      button('−', 'picture.smaller', (now) => now / 1.5), button('1:1', 'picture.fit', () => 1), button('+', 'picture.bigger', (now) => now * 1.5)));
  }, { wide: true, hook: 'picture-full' });
}

// The picture with its switches.
export function picture(alarm) {
  const node = h('div', { class: 'picture' });
  if (!alarm.image) return put(node, h('p', { class: 'picture-none' }, () => t('picture.none')));
  const { node: frame, show, heat, box } = layers(alarm);
  const toggle = (name, there) => there && h('button', {
    type: 'button', class: 'switch', 'data-test': `switch-${name}`, 'aria-pressed': () => prefs.get(name, true),
    onclick: (event) => {
      prefs.set(name, !prefs.get(name, true));
      event.currentTarget.setAttribute('aria-pressed', String(prefs.get(name, true)));
      show();
    },
  }, () => t(`picture.${name}`));
  return put(node,
    h('button', { type: 'button', class: 'picture-open', css: { '--ratio': String((alarm.frame?.width || 4) / (alarm.frame?.height || 3)) }, 'aria-label': () => t('picture.full'), onclick: () => full(alarm) }, frame),
    h('div', { class: 'picture-tools' }, toggle('box', box), toggle('heat', heat),
      h('button', { type: 'button', class: 'quiet', onclick: () => full(alarm) }, () => t('picture.full'))));
}
