"""The text of policy MDP-1: how gardien treats missing, late and implausible values.

The text describes what the code of this version does; docs/policy.md is generated from it.
"""

from __future__ import annotations

ENGLISH = """\
# MDP-1: what gardien does about missing, late and implausible values

Every batch names this version (`policy`). It is a promise about every slot of every series.

1. **Nothing is overwritten.** A value is sent as the meter reported it, with its own digits. A
   correction is a new version of the row (`ver`); the highest version counts. A missing value is
   not zero.
2. **The index is the truth.** With `intervals: true` the consumption of a step (`INT`) is
   calculated from two indexes in consecutive slots, and marked K. With `mean:` a mean (`AVG`) is
   calculated from the good values read in its step, if they are at least four fifths of its reads,
   and marked K too.
3. **Every slot gives one row:** a value, or M with the reason. `silent`: the meter did not answer;
   `link`: its line was down; `agent`: gardien, or its component that reads or keeps the value, was
   down; `bad`: the meter reports the value as invalid, or gardien could not read it because of an
   error of its own; `early`: before its first answer; `busy`: the line had no time left, or the
   value was read later than its step; `shed`: dropped because the disk was full or failed;
   `clock`: the time was not known; `uplink`: the operator had removed the uplink to this
   recipient, and nothing was kept for it. A run of M is one row (`span`).
   A silent meter is read again every minute while its slot runs, if a slot lasts longer than two
   minutes; a meter with a battery once, and then only as often as the battery allows. Its late
   values are sent as new versions, flagged LATE. A state (EVT: a door, an alarm, a fault) is not
   repeated in every slot: a row is sent when the state changes, when it is no longer known (M),
   and when it is known again. Its date is the slot in which that was seen.
4. **Nothing is estimated.** A gap stays a gap; no index is invented.
5. **Suspect values are kept and marked.** V: measured, all checks passed. R: measured, but
   a check was impossible (the value before or the meter's rating is not known). S: measured, and
   a check failed; leave it out of sums.
6. **An index that falls** has rolled over (flag ROLL) if it was above 90 % of its highest value
   and the resulting consumption is possible. Otherwise it is S and RST: the meter was reset or
   read wrongly. A value that the next one confirms is the new starting point.
7. **Another serial number** than the installed one: nothing is sent for that dwelling until the
   registry records what happened. The first index after an exchange is flagged EXCH. The
   consumption of that step is calculated from both meters: K with their indexes at the exchange, E
   without.
8. **Plausibility.** An index that rises faster than 1.2 times the meter's `rating`: S and SPK. A
   value outside the range of its quantity: S and RNG; a value that changes faster than its
   quantity can: S and SPK. A sensor with the same value for 24 h, or an index that does not change
   for 30 days: FRZ, for information.
9. **Time.** Steps shorter than a day have their slots in UTC. A day begins at the building's
   midnight and has 23, 24 or 25 hours (flag DST at the end of a short or long one). `d` says how
   many seconds after its slot a value was read; an index read later than a quarter of its step is
   flagged PART. While no time service keeps the clock, readings are not dated: they wait in memory
   and get their dates once the clock is known (flag CLK, a new version). A restart loses the
   waiting readings; their slots are M. A meter whose own clock is wrong by more than five minutes
   is flagged CLK too, without a new version, for information: the times of its stored values are
   wrong as well.
10. **A value comes once.** A slot is closed once, by the first value and by one meter of a place.
    A second read of the slot is left out. A second meter for the same quantity is withheld, and
    named in `gardien status`. The platform refuses a second row with the same key, and counts it.
11. **Outage.** Reading goes on while the platform cannot be reached; `gardien check` shows for how
    many days there is space. When the space is used up, values are given up in this order: common
    areas and plant keep one an hour, then one a day; then the oldest values of everything are
    dropped. The midnight index of every meter is kept, and so is every change of a state. Dropped
    values are M `shed`, and counted.
12. **Sums over dwellings** (K, method SUM, `n`) are sums of the values read. A missing dwelling
    lowers `n`; nothing is estimated or scaled up, and a late value makes no new version. A slot has
    no sum (W `few`, where such rows are wanted) if fewer dwellings are known than the building has
    set, or than four fifths of the group.
"""

FRENCH = """\
# MDP-1 : ce que fait gardien des valeurs manquantes, tardives et douteuses

La version figure dans chaque lot (`policy`). C'est un engagement sur chaque pas de chaque série.

1. **Rien n'est écrasé.** Ce que dit un compteur est transmis tel quel, avec ses propres chiffres.
   Une correction est une nouvelle version de la ligne (`ver`) ; la plus haute fait foi. L'absence
   de valeur n'est pas zéro.
2. **L'index fait foi.** La consommation d'un pas (`INT`) est calculée à partir de deux index qui se
   suivent, là où `intervals: true` la demande ; elle porte la lettre K. Une moyenne (`AVG`) est
   faite là où `mean:` la demande, des bonnes valeurs lues dans son pas, les quatre cinquièmes au
   moins ; elle porte K aussi.
3. **Chaque pas donne une ligne :** une valeur, ou M avec le motif. `silent` : le compteur n'a
   pas répondu ; `link` : sa ligne était coupée ; `agent` : gardien, ou son composant qui lit ou
   garde la valeur, était arrêté ; `bad` : le compteur déclare la valeur invalide, ou une erreur
   de gardien a empêché de la lire ; `early` : avant sa première réponse ; `busy` : la ligne
   n'avait plus le temps, ou la valeur a été lue après la fin de son pas ; `shed` : abandonnée
   parce que le disque était plein ou en panne ; `clock` : l'heure n'était pas connue ;
   `uplink` : l'exploitant avait retiré la liaison vers ce destinataire, et rien n'était gardé
   pour lui. Une suite de M tient en une ligne (`span`). Un compteur muet est interrogé de nouveau
   chaque minute tant que dure son pas, si celui-ci dépasse deux minutes (un compteur à pile, une
   fois puis pas plus souvent que la pile ne le permet) ; ce qu'il dit alors part comme nouvelle
   version, marquée LATE. Seul un état (EVT : porte, alarme, défaut) n'est pas répété à chaque
   pas : une ligne part quand il change, quand on ne le connaît plus (M), et quand on le connaît
   de nouveau. Sa date est celle du pas où on l'a vu.
4. **Rien n'est estimé.** Un trou reste un trou ; aucun index n'est inventé.
5. **Les valeurs douteuses sont conservées et signalées.** V : mesurée, tous contrôles passés. R :
   mesurée, mais il manque de quoi contrôler (la valeur précédente, la puissance du compteur). S :
   mesurée, un contrôle a échoué ; à ne pas additionner.
6. **Un index qui baisse** est repassé par zéro (ROLL) s'il dépassait 90 % de sa capacité et si ce
   qui s'est écoulé est possible ; sinon S et RST : compteur remis à zéro ou mal lu. Une valeur que
   la suivante confirme sert de nouveau départ.
7. **Un autre numéro de série** que celui du compteur posé : rien ne part pour ce logement tant que
   personne n'a dit ce qui s'est passé. Le premier index après un échange porte EXCH ; la
   consommation de ce pas est calculée sur les deux compteurs : K avec leurs index à l'échange, E
   sans.
8. **Vraisemblance.** Un index qui monte plus vite que 1,2 fois la puissance (`rating`) : S et SPK.
   Une valeur hors de ce que la grandeur peut être : S et RNG ; une valeur qui change plus vite
   qu'elle ne le peut : S et SPK. Un capteur qui dit exactement la même chose pendant 24 h, un index
   immobile pendant 30 jours : FRZ, pour information.
9. **Temps.** Les pas de moins d'un jour sont en UTC. Le jour commence à minuit au bâtiment et
   compte 23, 24 ou 25 heures (DST à la fin d'un jour court ou long). `d` donne les secondes entre
   le pas et la lecture ; un index lu après le quart de son pas porte PART. Tant qu'aucun service
   de temps ne tient l'horloge, les lectures ne sont pas datées : elles attendent en mémoire et
   reçoivent leur date quand l'heure est connue (CLK, nouvelle version). Ce qui attend lors d'un
   redémarrage est perdu et compté M. Un compteur qui dit l'heure et se trompe de plus de cinq
   minutes : CLK aussi, sans nouvelle version, pour information ; ce qu'il range seul l'est autant.
10. **Une valeur arrive une fois.** Un pas est clos une seule fois, par la première valeur et par un
    seul compteur d'un lieu : ce qui est relu pour lui est laissé, et un second compteur de la même
    grandeur est retenu et nommé par `gardien status`. La plateforme refuse et compte une seconde
    ligne de même clé.
11. **Coupure.** La lecture continue quand la plateforme est injoignable ; `gardien check` dit pour
    combien de jours il y a de la place. Quand elle est épuisée, des valeurs sont abandonnées dans
    cet ordre : les parties communes gardent une valeur par heure, puis une par jour ; puis les plus
    anciennes de toutes. L'index de minuit est gardé, de chaque compteur, et chaque changement
    d'un état aussi. Ce qui est perdu est M `shed`, et compté.
12. **Les sommes sur plusieurs logements** (K, méthode SUM, `n`) sont faites de ce qui a été lu : un
    absent abaisse `n`, rien n'est estimé ni extrapolé, et une valeur tardive ne donne pas de
    nouvelle version. Un pas dont on connaît moins de logements que l'immeuble ne l'a fixé, ou moins
    des quatre cinquièmes du groupe, n'a pas de somme (W `few`, là où ces lignes sont voulues).
"""

TEXTS = {"en": ENGLISH, "fr": FRENCH}
"""the policy by language"""
