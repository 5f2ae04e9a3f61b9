"""What the letter to the people of a dwelling says, in French and in English."""

from __future__ import annotations

WORDS = {
    "fr": {
        "title": "Les données de votre logement",
        "intro": "Cette lettre dit ce que la passerelle de l'immeuble sait du logement {place}, "
        "à qui elle l'envoie et pourquoi. Elle ne connaît aucun nom.",
        "lived": "Vous y êtes connu comme l'occupation {id}{reference}, depuis le {since}.",
        "lived_until": "Vous y êtes connu comme l'occupation {id}{reference}, du {since} au"
        " {until}.",
        "vacant": "Personne n'y est connu comme occupant aujourd'hui.",
        "stopped": "Ce qui vient de cesser",
        "stopped_words": "{recipient} ne reçoit plus rien de : {channels} (« {purpose} »). Ce qui "
        "attendait ici est détruit ; il lui est demandé d'effacer ce qu'il a reçu.",
        "goes_on": "Continue, sans votre accord : {recipient} reçoit les index de fin de mois et "
        "de changement d'occupant, parce que la loi ou le contrat l'exige ({reference}).",
        "measured": "Ce qui est mesuré",
        "measured_columns": "grandeur|ce qu'elle révèle",
        "sent": "Ce qui est envoyé",
        "sent_columns": "à qui|quoi|à quel pas|pourquoi|accord",
        "nothing": "Rien ne quitte l'immeuble.",
        "sums": "Ce qui compte dans une somme",
        "sums_words": "Votre logement compte dans une somme sur plusieurs logements, sans que l'on "
        "puisse en tirer ce qui est le vôtre. Elle n'est envoyée que si assez de logements y sont "
        "qui ne sont pas envoyés un par un. Qui y est ne change que le 1er du mois.",
        "sums_columns": "à qui|quoi|à quel pas|logements|jusqu'au",
        "sum_never": "pas envoyée : trop peu de logements",
        "held": "Ce qui reste ici",
        "held_words": "Tout le reste n'est pas envoyé et n'est pas conservé : il n'y a pas "
        "d'accord de votre part, ni d'obligation légale.",
        "held_nothing": "Rien d'autre n'est mesuré.",
        "waiting": "Valeurs qui attendent encore ici d'être reçues, ou sont gardées pour une "
        "obligation légale : {number}. Elles sont dans le tableau joint (CSV).",
        "received": "Ce qui a été reçu",
        "received_columns": "jour|par qui|quoi|valeurs",
        "received_nothing": "Rien n'a été reçu par qui que ce soit.",
        "kept": "Combien de temps",
        "kept_words": "La passerelle efface ce qui a été reçu ; une copie scellée reste {days} "
        "jours au plus. Ce que personne ne reçoit est détruit après 60 jours. Pour une "
        "obligation légale, l'index de minuit est gardé 62 jours. Le registre des envois, sans "
        "valeurs, est gardé 5 ans.",
        "rights": "Vos droits",
        "rights_words": "Vous pouvez retirer votre accord à tout moment, sans raison, auprès du "
        "gestionnaire de l'immeuble : l'effet est immédiat. Vous pouvez demander l'accès, la "
        "rectification et l'effacement à ceux qui ont reçu des données, et saisir la CNIL.",
    },
    "en": {
        "title": "The data of your dwelling",
        "intro": "This letter says what the building's gateway knows of the dwelling {place}, to "
        "whom it sends it and why. It knows nobody's name.",
        "lived": "You are known there as occupancy {id}{reference}, since {since}.",
        "lived_until": "You are known there as occupancy {id}{reference}, from {since} to {until}.",
        "vacant": "Nobody is known to live there today.",
        "stopped": "What has just ended",
        "stopped_words": '{recipient} receives no more of: {channels} ("{purpose}"). What waited '
        "here is destroyed; they are asked to erase what they have received.",
        "goes_on": "Goes on without your consent: {recipient} receives the index at the end of "
        "each month and at a change of occupant, because law or contract asks for it "
        "({reference}).",
        "measured": "What is measured",
        "measured_columns": "quantity|what it shows",
        "sent": "What is sent",
        "sent_columns": "to whom|what|how often|why|consent",
        "nothing": "Nothing leaves the building.",
        "sums": "What counts in a sum",
        "sums_words": "Your dwelling counts in a sum over several dwellings, from which nobody can "
        "tell what is yours. It is sent only where enough dwellings stand in it that are not sent "
        "one by one. Who stands in it changes on the 1st of a month only.",
        "sums_columns": "to whom|what|how often|dwellings|until",
        "sum_never": "not sent: too few dwellings",
        "held": "What stays here",
        "held_words": "Everything else is not sent and not kept: you have not agreed to it, and "
        "no duty asks for it.",
        "held_nothing": "Nothing else is measured.",
        "waiting": "Values that still wait here to be received, or are kept for a legal duty: "
        "{number}. They are in the table that comes with this letter (CSV).",
        "received": "What was received",
        "received_columns": "day|by whom|what|values",
        "received_nothing": "Nothing has been received by anybody.",
        "kept": "For how long",
        "kept_words": "The gateway erases what was received; a sealed copy stays for {days} days "
        "at most. What nobody receives is destroyed after 60 days. For a legal duty the index of "
        "midnight is kept for 62 days. The record of what was sent, without values, is kept for "
        "5 years.",
        "rights": "Your rights",
        "rights_words": "You may withdraw your consent at any time, without a reason, at the "
        "building manager's: it takes effect at once. You may ask those who received data for "
        "access, correction and erasure, and complain to the data protection authority.",
    },
}
"""by language and part; `|` parts the columns of a table"""
