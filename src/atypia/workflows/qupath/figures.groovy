def figures = getSelectedObjects() as List
if (figures.isEmpty())
    figures = getDetectionObjects() as List
if (figures.isEmpty())
    figures = getAnnotationObjects().findAll { it.getROI() != null && it.getROI().isPoint() } as List
if (!CLASSES.isEmpty())
    figures = figures.findAll { it.getPathClass() != null && CLASSES.contains(it.getPathClass().toString()) } as List
if (figures.isEmpty())
    throw new IllegalStateException('No figures: select objects, or make detections or point annotations' +
        (CLASSES.isEmpty() ? '' : ', of the classes ' + CLASSES))
def counted = { number, one, several -> number + ' ' + (number == 1 ? one : several) }
