// What is around every view: name, ways to the views, open alarms, broker, language, theme, sound, and the way out.
import { h, put, refresh } from './dom.js';
import { lang, t, word } from './i18n.js';
import { help } from './keys.js';
import { icon, mark, SEVERITIES, sign } from './marks.js';
import { attempt, regions } from './notices.js';
import { counts, countsChanged, openTotal } from './plant.js';
import { isDark, prefs } from './prefs.js';
import { main, parse } from './router.js';
import { logOut, session, sessionChanged } from './session.js';
import * as sound from './sound.js';
import { link } from './stream.js';

const VIEWS = ['alarms', 'history', 'fleet', 'models', 'report', 'settings'];

const nav = h('nav', { class: 'views', 'aria-label': () => t('nav') }, VIEWS.map((name) => h('a', {
  href: `#/${name}`, 'data-test': `nav-${name}`, 'aria-current': () => (parse().name === name ? 'page' : null),
}, icon(name), h('span', null, () => t(`nav.${name}`)), name === 'alarms' ? h('span', { class: 'badge', hidden: () => !openTotal(), 'aria-hidden': 'true' }, () => String(openTotal())) : null)));

const counters = h('div', { class: 'counters', role: 'group', 'aria-label': () => t('counters') }, SEVERITIES.map((name) => h('a', {
  href: `#/alarms?severity=${name}`, class: () => `counter counter-${name}${counts[name] ? '' : ' counter-none'}`, 'data-test': `header-${name}`,
  title: () => word('severity', name), 'aria-label': () => `${word('severity', name)}: ${counts[name]}`,
}, mark(name), h('span', null, () => String(counts[name])))));

const broker = h('span', { class: () => `broker${session.broker.connected && link.up ? '' : ' broker-away'}`, 'data-test': 'broker', title: () => session.broker.url },
  sign(() => (session.broker.connected && link.up ? 'good' : 'bad')), h('span', null, () => t(!link.up ? 'link.lost.short' : session.broker.connected ? 'broker.here' : 'broker.away.short')));

const tool = (name, props, ...children) => h('button', { type: 'button', class: 'tool', 'data-test': `${name}-switch`, ...props }, children);

const tools = h('div', { class: 'tools' },
  tool('lang', { 'aria-label': () => t('lang.switch'), title: () => t('lang.switch'), onclick: () => prefs.set('lang', lang() === 'zh' ? 'en' : 'zh') },
    h('span', { class: 'lang-name', lang: () => (lang() === 'zh' ? 'en' : 'zh-CN') }, () => (lang() === 'zh' ? 'EN' : '中文'))),
  tool('theme', { 'aria-label': () => t('theme.switch'), title: () => t('theme.switch'), onclick: () => prefs.set('theme', isDark() ? 'light' : 'dark') }, icon(() => (isDark() ? 'light' : 'dark'))),
  tool('sound', { 'aria-pressed': sound.isOn, 'aria-label': () => t('sound.critical'), title: () => t(sound.isOn() ? 'sound.on' : 'sound.off'), onclick: sound.toggle }, icon(() => (sound.isOn() ? 'sound' : 'silent'))),
  tool('help', { class: 'tool only-inside help-tool', 'aria-label': () => t('help'), title: () => t('help'), onclick: help }, icon('help')),
  h('span', { class: 'user only-inside', 'data-test': 'user' }, h('span', null, () => session.user), h('span', { class: 'kind' }, () => word('role', session.role))),
  tool('logout', { class: 'tool only-inside', 'data-test': 'logout', 'aria-label': () => t('logout'), title: () => t('logout'), onclick: () => attempt(logOut) }, icon('out')));

const banner = (shown, words, hook) => h('p', { class: 'banner', role: 'alert', hidden: () => !shown(), 'data-test': hook }, sign('warn'), words);
const banners = h('div', { class: 'banners' },
  banner(() => session.user && !link.up, () => t('link.lost'), 'banner-link'),
  banner(() => session.user && link.up && !session.broker.connected,
    () => t(session.broker.reason ? 'broker.away.why' : 'broker.away', { reason: session.broker.reason, url: session.broker.url }), 'banner-broker'));

const header = h('header', { class: 'top' },
  h('a', { class: 'brand', href: '#/alarms', 'aria-label': 'inspectd' }, h('span', { class: 'brand-mark', 'aria-hidden': 'true' }, mark('critical')), 'inspectd'),
  nav, h('span', { class: 'spacer' }), counters, broker, tools);

const skip = h('a', { class: 'skip', href: '#main', onclick: (event) => {
  event.preventDefault();
  main.focus();
} }, () => t('skip'));

// Brings what is around the view up to date.
export function update() {
  document.body.classList.toggle('outside', !session.user);
  const { name } = parse();
  const title = session.user && name !== 'alarms' ? `${t(`nav.${name}`)} · inspectd` : 'inspectd';
  document.title = session.user && openTotal() ? `(${openTotal()}) ${title}` : title;
  refresh(header);
  refresh(banners);
}

export function build() {
  put(document.body, skip, header, banners, main, regions);
  countsChanged.on(update);
  sessionChanged.on(update);
  link.changed.on(update);
  prefs.on(update);
  update();
}
